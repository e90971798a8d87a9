"""The review page: a server on loopback where people go through a run's faces and answer."""
