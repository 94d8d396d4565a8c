"""The local pipeline: the function in Lambda's real runtime, between an AWS emulator and a stand-in Thrive API."""
