"""What a page consists of, as an HTML parser sees it."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Identifiers of sections, headings, pictures, attributes that point elsewhere, and balance."""

    _VOID = ("meta", "link", "img", "path", "rect", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.images: list[dict] = []
        self.elsewhere: list[str] = []
        self.attributes: dict[str, dict] = {}
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == [], "a tag is not closed"

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.attributes.setdefault(tag, found)
        if tag == "section":
            self.sections.append(found["id"])
        if tag == "img":
            self.images.append(found)
        for name in ("src", "href"):
            if not found.get(name, "#").startswith(("#", "data:")):
                self.elsewhere.append(found[name])
        if tag not in self._VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_startendtag(self, tag, attrs): ...

    def handle_data(self, data):
        if self._open and self._open[-1] not in ("style", "title"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)
