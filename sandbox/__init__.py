"""AWS and Thrive on one machine, for the demo, the tests and the benchmarks. README.md says what each folder is."""
