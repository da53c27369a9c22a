"""Values that options may take or have. Nothing is imported here, since `bench --help` must be instant."""

SPLITS = ("train", "validation", "test")
DEMOS = ("pancreas", "abdomen", "brain")  # the anatomy around the pancreas, the whole body, the head with a tumour
PROTOCOLS = ("sliding-window", "center-patch")
ROIS = ("none", "body", "coarse", "foreground")
SCENARIOS = ("single-stream", "offline", "cold")
ACCURACIES = ("truth", "agreement")  # what predictions are scored against; as `reports.records.record` has it
ABSENT = ("skip", "one")  # what a structure counts that a case lacks; as `reports.records.record` has it
PREPROCESSINGS = ("auto", "nnunet")  # of networks of nnU-Net: ours where it is equal, or its own functions
RACES = ("on", "off")  # whether variants leave the rounds once nothing more of them would change the answer
SERVED = ("triton", "mlserver")  # servers of models
EXPORTS = ("package", "onnx", "openvino", "torchscript", "monai-bundle", *SERVED)  # what `bench export` writes
READ_AHEAD = 2  # cases that are read before their turn, where nothing else is said
MAX_OVERLAP = 0.95  # share of a tile's side
PLAN_FILE = "plan.json"  # that `bench plan` writes, and its name in the directory of a run
