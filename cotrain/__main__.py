"""The command line, as `cotrain` and as `python -m cotrain`."""

import sys


def main() -> None:
    """Entry point: also who presses Ctrl-C while the command line is imported sees no traceback."""
    try:
        from cotrain.cli import main as run
    except KeyboardInterrupt:
        print("cotrain: stopped.", file=sys.stderr)
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
