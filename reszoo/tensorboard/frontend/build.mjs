// Bundles src/ into one file, and the licences of what is bundled beside it.
//
//   npm ci --ignore-scripts && npm run build

import {readFileSync, writeFileSync} from "node:fs";
import {dirname, join} from "node:path";
import {fileURLToPath} from "node:url";
import {build} from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const target = process.argv[2] ?? join(here, "..", "static");

const result = await build({
  absWorkingDir: here,
  entryPoints: ["src/index.js"],
  outfile: join(target, "index.js"),
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "ascii",
  legalComments: "none",
  loader: {".css": "text"},
  banner: {js: "/* Gradient Flow. Made by npm run build in reszoo/tensorboard/frontend; see LICENSES.txt. */"},
  metafile: true,
});

const bundled = new Set();
for (const input of Object.keys(result.metafile.inputs)) {
  const found = input.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)\//);
  if (found) bundled.add(found[1]);
}
const licences = [...bundled].sort().map((name) => {
  const folder = join(here, "node_modules", name);
  const {version, license} = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const text = readFileSync(join(folder, "LICENSE"), "utf8").trim();
  return `${name} ${version} (${license})\n\n${text}\n`;
});
const opening = "index.js contains the libraries below.\n\n";
writeFileSync(join(target, "LICENSES.txt"), opening + licences.join(`\n${"-".repeat(72)}\n\n`));
