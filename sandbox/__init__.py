"""AWS and Thrive on one machine: the stand-in Thrive API, the local pipeline and the demo. Not part of the wheel."""
