"""The command line, as `cotrain` and as `python -m cotrain`."""

import os
import sys


def main() -> None:
    """Entry point: also who presses Ctrl-C while the command line is imported sees no traceback."""
    if sys.stderr is None:  # closed, as by `2>&-`: what is said there goes nowhere, not to standard output
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    try:
        from cotrain.cli import main as run
    except KeyboardInterrupt:
        print("cotrain: stopped.", file=sys.stderr)
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
