PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# Without what it asks for: through timm that is torchvision, and with it a PyTorch other than the pinned one.
NNUNET := nnunetv2 dynamic-network-architectures acvl-utils batchgenerators batchgeneratorsv2
# NVIDIA Triton's server for tests, whose Python backend takes NumPy 1 alone: that stands beside the other packages.
TRITON := nvidia-pytriton

.PHONY: setup bench bench-peers test docs check clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps $(NNUNET) $(TRITON)
	-$(BIN)/python -m pip install --quiet --no-deps --only-binary :all: --target .venv/numpy-of-pytriton numpy==1.26.4
	touch $@

# The main job on the bundled demo, and its report; fails unless the claim is confirmed.
bench: setup
	$(BIN)/bench run --backends all; status=$$?; $(BIN)/bench report; exit $$status

PEERS := peer-monai-fp32,peer-monai-amp,peer-nnunet,peer-script
AGAINST ?= torch-compile,openvino-fp32,openvino-bf16,openvino-int8,openvino-fp32@2,openvino-int8@2

# What users run today beside the best here, interleaved in one run on the bundled demo.
bench-peers: setup
	$(BIN)/bench run --backends $(AGAINST),$(PEERS); status=$$?; $(BIN)/bench report; exit $$status

# A test that takes its process down ends the whole run at once: replaced by another process, the run would never end.
test: setup
	$(BIN)/python -m pytest -n 3 --dist loadgroup --max-worker-restart 0

# The figures and tables of the documents, from the committed runs; the picture of a report needs Chromium.
docs: setup
	$(BIN)/python scripts/fill_tables.py
	$(BIN)/python scripts/validity/plot_power.py
	$(BIN)/python scripts/picture_of_report.py

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv runs build *.egg-info
