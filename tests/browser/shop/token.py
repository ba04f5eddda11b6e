"""The token of the shop's operators."""

TOKEN = "t0ken-of-the-shop-and-nobody-else"
