"""A recipe as a TOML file that ``bench run --recipes`` reads."""

from reports.records.record import VariantSettings

_ALWAYS = ("backend", "roi", "overlap", "batch", "tta")
_WHERE_SET = ("tile", "margin_mm", "streams", "threads", "int8_dice")


def recipe_text(name: str, own: VariantSettings, remark: str) -> str:
    """The recipe `own` as the table `name`, with all that decides what it does; `remark` is its comment, a line."""
    import tomli_w

    table = {key: getattr(own, key) for key in _ALWAYS}
    table |= {key: value for key in _WHERE_SET if (value := getattr(own, key)) is not None}
    if own.rewrites:
        table["rewrites"] = list(own.rewrites)
    if own.tile is not None:
        table["tile"] = list(own.tile)
    return f"# {remark}\n\n{tomli_w.dumps({name: table})}"
