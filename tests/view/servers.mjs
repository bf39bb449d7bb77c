// The host's page and the sandbox, each at an origin of its own. The host's origin passes /mcp on to
// the server under test, which admits no page of another origin.
import { createServer, request } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript" };

const listening = (answer) => new Promise((resolve) => {
  const server = createServer(answer).listen(0, "127.0.0.1", () => resolve(server));
});
const origin = (server, name) => `http://${name}:${server.address().port}`;

async function file(response, path, headers = {}) {
  try {
    const content = await readFile(path);
    response.writeHead(200, { "content-type": TYPES[extname(path)] ?? "application/octet-stream", ...headers });
    response.end(content);
  } catch {
    response.writeHead(404).end();
  }
}

function passOn(incoming, response, mcp) {
  const { origin: _, host: __, ...headers } = incoming.headers;
  const outgoing = request(mcp, { method: incoming.method, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  outgoing.on("error", () => response.writeHead(502).end());
  response.on("close", () => outgoing.destroy());
  incoming.pipe(outgoing);
}

// As the specification says: the declared origins, or its restrictive default. Where origins are
// declared, `data:` pictures are not allowed beside them: the MCP Inspector's host reads it so.
export function policy(csp) {
  if (!csp) {
    return "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; " +
      "img-src 'self' data:; media-src 'self' data:; connect-src 'none'; frame-src 'none'";
  }
  const from = (csp.resourceDomains ?? []).join(" ");
  return `default-src 'none'; script-src 'self' 'unsafe-inline' ${from}; style-src 'self' 'unsafe-inline' ${from}; ` +
    `img-src 'self' ${from}; font-src 'self' ${from}; media-src 'self' data: ${from}; ` +
    `connect-src 'self' ${(csp.connectDomains ?? []).join(" ")}; frame-src 'none'; object-src 'none'; base-uri 'self'`;
}

export async function serve(here, modules, mcp) {
  const host = await listening((incoming, response) => {
    const path = new URL(incoming.url, "http://host").pathname;
    if (path === "/mcp") return passOn(incoming, response, mcp);
    if (path.startsWith("/modules/")) return file(response, join(modules, normalize(path.slice(8))));
    return file(response, join(here, "host.html"));
  });
  const sandbox = await listening((incoming, response) => {
    const given = new URL(incoming.url, "http://sandbox").searchParams.get("csp");
    return file(response, join(here, "sandbox.html"), {
      "content-security-policy": policy(given && JSON.parse(given)), "cache-control": "no-store",
    });
  });
  return {
    host: origin(host, "127.0.0.1"), sandbox: origin(sandbox, "localhost"),
    close: () => { for (const server of [host, sandbox]) { server.closeAllConnections(); server.close(); } },
  };
}
