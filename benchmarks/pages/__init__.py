"""`python -m benchmarks.pages`: the pages and pictures of the documentation that are made of the code itself."""
