"""``python -m tools.pictures``: draw every picture of docs/img again."""

from __future__ import annotations

from tools.pictures.album import FOLDER, PICTURES, ROOT


def main() -> None:
    """Write the pictures that have changed, and say which."""
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        path = FOLDER / f"{name}.svg"
        new = draw().svg()
        if not path.exists() or path.read_text() != new:
            path.write_text(new)
            print(f"drawn: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
