"""MONAI bundles: the folder (`bundle`), its `config` read as data, with the `expressions` that are computed in it, and
from it the network (`build`; `searched` where its architecture was), its `transforms`, its `inferer` and its `task`.
"""
