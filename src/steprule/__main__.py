"""``python -m steprule`` is the command ``steprule``."""

from steprule.cli import main

if __name__ == "__main__":
    main()
