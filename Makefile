.PHONY: check lint types test format

check: lint types test  ## everything that must be green at every commit

lint:
	ruff check .
	ruff format --check .

types:
	mypy

test:
	pytest -n 2 --dist loadfile

format:
	ruff check --fix .
	ruff format .
