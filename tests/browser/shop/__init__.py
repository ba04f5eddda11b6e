"""The application that the page of these tests tells of: a shop, some of whose orders fail."""
