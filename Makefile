# The commands of the project. Each is a script, for machines without make.

.PHONY: help serve test lint fmt bench lock

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "make %-7s %s\n", $$1, $$2 }'

serve: ## serve the site on http://127.0.0.1:8000 (HOST=…, PORT=…); the first run installs
	@scripts/serve

test: ## check the code and run all tests; ARGS="-k cache" runs pytest with these arguments instead
	@scripts/test $(ARGS)

lint: ## style, types, order of imports, missing migrations, a production's settings
	@scripts/lint

fmt: ## lay out the code
	@scripts/fmt

bench: ## run the benchmarks and print one table
	@scripts/bench $(ARGS)

lock: ## renew the versions in requirements.txt and requirements-dev.txt, and the hashes
	@scripts/lock
