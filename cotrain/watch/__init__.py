"""What keeps an eye on a long run: where it hangs, which rank is slow, what it uses of the machine, what went wrong."""
