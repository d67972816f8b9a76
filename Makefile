.PHONY: demo test lint docs setup

python = $${VIRTUAL_ENV:-.venv}/bin/python

demo: ## the whole pipeline on toy streets
	bash scripts/demo.sh

test: ## lint, types, tests
	bash scripts/test.sh

lint: setup ## lint and types alone
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

docs: setup ## pages that are made from the code
	$(python) -m cups.config_page > docs/configuration.md.new
	mv docs/configuration.md.new docs/configuration.md

setup:
	bash scripts/setup.sh
