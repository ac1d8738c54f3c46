/**
 * The page at / if the pages are not built: it lists the addresses of the API. It loads no other file and contains
 * nothing from the request.
 */
export const WELCOME_PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Paraffin</title>
<style>
body { font: 16px/1.6 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; color: #2b2330; background: #fbf8fa }
h1 { font-weight: 600 } code, pre { font-family: ui-monospace, monospace; font-size: 0.9em }
pre { background: #f1e8f0; padding: 1rem; overflow-x: auto; border-radius: 4px } a { color: #8a2a6b }
</style>
</head>
<body>
<h1>Paraffin</h1>
<p>A registry of histopathology datasets and pretrained encoders that can also make them.</p>
<h2>Query</h2>
<p>GraphQL is at <code>/graphql</code>, over HTTP and WebSocket (graphql-transport-ws).</p>
<pre>curl -s http://127.0.0.1:4000/graphql -H 'content-type: application/json' \\
  -d '{"query": "{ datasets(first: 5) { totalCount nodes { slug name organs { name } stains { name } } } }"}'</pre>
<p>Reading as the same user on this machine is open. Every change needs a key, sent as <code>Authorization: Bearer &lt;key&gt;</code>;
the first one is in the file <code>admin-key</code> of the data directory.</p>
<h2>Download</h2>
<pre>curl -C - -o encoder.safetensors http://127.0.0.1:4000/checkpoints/&lt;id&gt;/download</pre>
<p>Also <code>/artifacts/&lt;sha256&gt;</code> and <code>/datasets/&lt;id&gt;/thumbnails/0.webp</code>. The ETag is the sha256.</p>
<h2>Monitor</h2>
<p><a href="/healthz">/healthz</a> · <a href="/readyz">/readyz</a> · <a href="/metrics">/metrics</a> (Prometheus)</p>
</body>
</html>
`;
