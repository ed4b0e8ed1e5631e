.PHONY: check lint types test format docs pictures gallery

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

docs:  ## the site in site/, warnings as errors; needs pip install -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

pictures:  ## docs/spaces/*.svg
	python docs/_tools/pictures.py

gallery:  ## docs/gallery/*.html, some minutes
	python docs/_tools/gallery.py
