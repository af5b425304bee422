"""`python -m lea_core.cli` is `lea`."""

from lea_core.cli import main

if __name__ == "__main__":
    main()
