"""Names that something else than text is made of, somewhere."""

ODD_NAMES = [
    "$a_$",  # a formula, and a broken one
    r"$\frac{$",
    "_a",  # a legend leaves it out
    "a|b",  # a column of a table
    "<b>&amp;</b>",
    "<script>alert(1)</script>",
    "'\"`",
    "a,b;c",
    "%s %d",
    "{0}{x}",
    "\\n^~#",
    "__init__",
    "a/b",
    "..",
    "",
    " ",
    "=1+1",
    "-x",
    "a\nb",
    "a\r\tb",
    "\x1b[2J\x00",
    "\u202eright to left\u202c",
    "שלום",
    "你好",
    "😀👍🏽",
    "\u2028",
    "e\u0301",
    "x" * 300,
]
