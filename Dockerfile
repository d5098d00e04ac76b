# One image for every process of the engine; the command says which.
FROM python:3.13-slim AS build
WORKDIR /src
COPY locks/ locks/
RUN python -m venv /opt/watchkeeper \
 && /opt/watchkeeper/bin/pip install --no-cache-dir --require-hashes -r locks/runtime.txt
COPY . .
RUN /opt/watchkeeper/bin/pip install --no-cache-dir --no-deps --no-build-isolation ./client .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --create-home watchkeeper && install -d -o watchkeeper /data /state
COPY --from=build /opt/watchkeeper /opt/watchkeeper
USER watchkeeper
ENV PATH=/opt/watchkeeper/bin:$PATH PYTHONUNBUFFERED=1
ENTRYPOINT ["watchkeeper"]
CMD ["--help"]
