"""The encoding of a text that does not name it, e.g. of a table or of the file names in a zip."""

from collections.abc import Callable


def guess_encoding(content: bytes) -> str | None:
    """Guess the encoding of a text that is not UTF-8: the first in which nearly all letters beyond ASCII are usual ones."""
    scripts: dict[str, Callable[[str], bool]] = {
        "cp949": lambda letter: "가" <= letter <= "힣" and letter.encode("euc_kr", "ignore") != b"",
        "cp932": lambda letter: "ぁ" <= letter <= "ヿ" or "一" <= letter <= "龥",
        "gb18030": lambda letter: "一" <= letter <= "龥",
        "cp1252": lambda letter: "À" <= letter <= "ÿ",
    }
    content = content[: content.rfind(b"\n") + 1] or content
    for encoding, is_usual in scripts.items():
        try:
            letters = [letter for letter in content.decode(encoding) if letter > "\x7f" and letter.isalpha()]
        except UnicodeDecodeError:
            continue
        if letters and sum(map(is_usual, letters)) >= 0.9 * len(letters):
            return encoding
    return None
