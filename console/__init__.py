"""Development tools that never ship: the stand-in Thrive API, the local pipeline, the command line."""
