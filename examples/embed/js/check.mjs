// SPDX-License-Identifier: Apache-2.0
// A product in JavaScript asks the local API of the licensing service.
//   node check.mjs SOCKET PRODUCT ROOT      exit code: 0 licensed, 1 not, 2 could not ask
import { request } from "node:http";

const [socketPath, product, root] = process.argv.slice(2);

function ask() {
  const path = `/v1/products/${product}/check?root=${encodeURIComponent(root)}`;
  return new Promise((resolve, reject) => {
    const asking = request({ socketPath, path, timeout: 10_000 }, async (answer) => {
      let text = "";
      try {
        for await (const piece of answer.setEncoding("utf8")) text += piece;
        const check = JSON.parse(text);
        if (answer.statusCode !== 200) throw new Error(`${check.code}: ${check.detail}`);
        resolve(check);
      } catch (error) {
        reject(error);
      }
    });
    asking.on("timeout", () => asking.destroy(new Error("the service does not answer"))).on("error", reject).end();
  });
}

try {
  if (root === undefined) throw new Error("usage: node check.mjs SOCKET PRODUCT ROOT");
  const check = await ask();
  console.log(`${check.product}: ${check.state}, ${check.enforcement}`);
  process.exitCode = check.licensed ? 0 : 1;
} catch (error) {
  console.error(error.message); // no service: the product goes on as its own rules say, and shows it
  process.exitCode = 2;
}
