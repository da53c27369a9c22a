"""MONAI bundles: the folder (`bundle`), its `config` read as data, `preprocessing` and network (`build`) from it."""
