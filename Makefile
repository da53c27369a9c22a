PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# Without what it asks for: through timm that is torchvision, and with it a PyTorch other than the pinned one.
NNUNET := nnunetv2 dynamic-network-architectures acvl-utils batchgenerators batchgeneratorsv2

.PHONY: setup bench test check clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps $(NNUNET)
	touch $@

# The main job on the bundled demo, and its report; fails unless the claim is confirmed.
bench: setup
	$(BIN)/bench run --backends all; status=$$?; $(BIN)/bench report; exit $$status

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadgroup

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv runs build *.egg-info
