'use strict';
// A small JSON service on node's own http server: parses the query, computes a histogram, answers with it.
const http = require('http');

const words = Array.from({ length: 200 }, (_, i) => 'w' + ((i * 7919) % 97));

http.createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost');
  const least = Number(url.searchParams.get('least') || 2);
  const counts = new Map();
  for (const word of words) counts.set(word, (counts.get(word) || 0) + 1);
  const frequent = [...counts].filter(([, n]) => n >= least).sort((a, b) => b[1] - a[1]).slice(0, 20);
  const body = JSON.stringify({ least, frequent });
  response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}).listen(Number(process.argv[2]), '127.0.0.1');
