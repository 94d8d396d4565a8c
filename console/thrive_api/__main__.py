"""`python -m console.thrive_api` runs the stand-in."""

from console.thrive_api.command import thrive_api

thrive_api()
