"""An HTML page as its tags and its text."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Checks that tags close in order and that nothing is fetched or run, and collects the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "img", "link", "iframe", "object")
        for name, value in attrs:
            assert not name.startswith("on"), "code"
            if name in ("href", "xlink:href", "src"):
                assert (value or "").startswith("#"), "nothing from elsewhere"
            if name == "id":
                assert value not in self.ids, "one place of each name"
                self.ids.add(value or "")
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
