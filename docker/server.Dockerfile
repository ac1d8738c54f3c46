# The registry's server: pages, API, downloads, catalogue. No engine.

# The pages are built with tools that the server itself does not need.
FROM node:24-bookworm-slim AS pages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY . .
RUN node scripts/build-web.mjs

FROM node:24-bookworm-slim
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev
COPY . .
COPY --from=pages /app/web/dist web/dist
# The pinned Node and the generated code, made once in the image.
RUN node scripts/generate.mjs && mkdir /data && chown node:node /data
USER node
ENV PARAFFIN_DATA_DIR=/data PARAFFIN_HOST=0.0.0.0 PARAFFIN_WORKER=false
EXPOSE 4000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD node -e "fetch('http://127.0.0.1:4000/readyz').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"
CMD ["node", "scripts/run.mjs", "src/cli/main.ts", "serve"]
