// Prints what the official AsyncAPI parser has to say of a document, as JSON: node check.js asyncapi.yaml
const { Parser } = require("@asyncapi/parser");
const { readFileSync } = require("node:fs");

new Parser().parse(readFileSync(process.argv[2], "utf8")).then(({ document, diagnostics }) => {
  const found = diagnostics.filter((one) => one.severity <= 1).map((one) => `${one.path.join(".")}: ${one.message}`);
  const operations = document ? document.operations().all().map((one) => one.id()) : [];
  process.stdout.write(JSON.stringify({ found, operations }));
});
