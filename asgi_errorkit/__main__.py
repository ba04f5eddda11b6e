"""`python -m asgi_errorkit` is the command `asgi-errorkit`."""

from asgi_errorkit.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
