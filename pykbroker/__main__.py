"""``python -m pykbroker``: the command line."""

from pykbroker.cli import main

if __name__ == "__main__":
    main()
