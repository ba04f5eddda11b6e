"""The application of Channels with the kit around it, which changes classes of its process."""

from channelled import app as bare

from asgi_errorkit import ErrorKit

app = ErrorKit(bare)
