"""What is fast, against what, measured side by side: `make bench`. README.md tells how to read it and run it again."""
