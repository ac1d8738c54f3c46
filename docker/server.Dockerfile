# The registry's server: pages, API, downloads, catalogue, imports. No engine: other runs are for workers.

# Debian 12 with Node 24, npm, and the user "node" (uid 1000). "npm run images" can make one where no registry of
# images is reachable.
ARG BASE=node:24-bookworm-slim

# The pages, and the library that reads slides, are made with tools that the server itself does not need.
FROM ${BASE} AS tools
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci && rm -rf /root/.npm
COPY . .
ENV PARAFFIN_ENGINE_CACHE_DIR=/engine
RUN node scripts/build-web.mjs && node scripts/run.mjs src/cli/main.ts slides install

FROM ${BASE}
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev && rm -rf /root/.npm
COPY . .
COPY --from=tools /app/web/dist web/dist
COPY --from=tools /engine /engine
# The pinned Node and the generated code, made once in the image.
RUN node scripts/generate.mjs && mkdir /data /keys && chown node:node /data /keys
USER node
# All that it writes is below /data, so that the rest may be read-only.
ENV PARAFFIN_DATA_DIR=/data TMPDIR=/data PARAFFIN_ENGINE_CACHE_DIR=/engine PARAFFIN_HOST=0.0.0.0 PARAFFIN_WORKER_KINDS=import
EXPOSE 4000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD node -e "fetch('http://127.0.0.1:4000/readyz').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"
CMD ["node", "scripts/run.mjs", "src/cli/main.ts", "serve"]
