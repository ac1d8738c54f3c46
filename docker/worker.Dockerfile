# A worker on CPU: trainings, evaluations, exports. It needs the address of a registry and a key, and nothing else of it.

# Debian 12 with Node 24, npm, and the user "node" (uid 1000). "npm run images" can make one where no registry of
# images is reachable.
ARG BASE=node:24-bookworm-slim
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip g++ libjpeg62-turbo-dev libpng-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev && rm -rf /root/.npm
COPY . .
ENV PARAFFIN_ENGINE_CACHE_DIR=/engine
RUN node scripts/generate.mjs && node scripts/run.mjs src/cli/main.ts engine && mkdir /data && chown node:node /data
USER node
# All that it writes is below /data, so that the rest may be read-only.
ENV PARAFFIN_DATA_DIR=/data TMPDIR=/data
CMD ["node", "scripts/run.mjs", "workers/main.ts"]
