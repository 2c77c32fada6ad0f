// Calls the functions of NAME.wasm, written by Covector, with typed arrays:
//
//     import { load } from "./NAME.mjs";
//     const library = await load(bytes); // of NAME.wasm, by fs.readFileSync or fetch
//     const [result, ...] = library.some_function(size, ..., argument, ...);
//
// Sizes, where a function has any, are numbers and come first. Arguments are arrays of numbers in
// row-major order, or typed arrays as `functions` below has them: that of a scalar has one element.

export async function load(bytes) {
  const { instance } = await WebAssembly.instantiate(bytes, {});
  const callers = {};
  for (const [symbol, description] of Object.entries(functions))
    callers[symbol] = (...values) => call(instance.exports, symbol, description, values);
  return callers;
}

function call(module, symbol, { sizes, inputs, outputs }, values) {
  if (values.length !== sizes.length + inputs.length)
    throw new TypeError(`${symbol} takes ${sizes.length} sizes and ${inputs.length} arrays`);
  const numbers = values.slice(0, sizes.length);
  const size = (array) => module[`${symbol}_bytes`](array, ...numbers) >>> 0;
  const start = module.heap.value;
  try {
    const given = inputs.map(({ name, array, shape }, k) => {
      const Kind = globalThis[array], value = values[sizes.length + k];
      const found = value instanceof Kind ? value : Kind.from(value);
      if (found.byteLength !== size(k))
        throw new RangeError(`${symbol}: ${name} has ${found.length} elements, not [${shape}]`);
      const address = allocated(module, found.byteLength);
      new Kind(module.memory.buffer, address, found.length).set(found);
      return address;
    });
    const made = outputs.map((_, k) => allocated(module, size(inputs.length + k)));
    const status = module[symbol](...numbers, ...given, ...made);
    if (status !== 0) throw new Error(text(module, module[`${symbol}_error`](status) >>> 0));
    return outputs.map(({ array }, k) => {
      const bytes = size(inputs.length + k);
      return new globalThis[array](module.memory.buffer.slice(made[k], made[k] + bytes));
    });
  } finally {
    module.release(start);
  }
}

function allocated(module, bytes) {
  const address = module.allocate(bytes) >>> 0;
  if (address === 0) throw new RangeError(`there is no memory for ${bytes} bytes`);
  return address;
}

function text(module, address) {
  const bytes = new Uint8Array(module.memory.buffer, address);
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
}
