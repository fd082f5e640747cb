// Reading and writing tables: CSV with commas, semicolons or tabs, quotes as RFC 4180 has them.

/** Decode a file: UTF-8 (or UTF-16 with a mark), else Windows-1252, which any bytes are. */
export function decode(buffer) {
  const head = new Uint8Array(buffer, 0, Math.min(2, buffer.byteLength));
  if (head[0] === 0xff && head[1] === 0xfe) return new TextDecoder("utf-16le").decode(buffer);
  if (head[0] === 0xfe && head[1] === 0xff) return new TextDecoder("utf-16be").decode(buffer);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(buffer);
  } catch {
    return new TextDecoder("windows-1252").decode(buffer);
  }
}

/** Return {columns, rows}: names of the first line, and an array of cells per row. */
export function readTable(text) {
  const separator = separatorOf(text);
  const lines = split(text, separator).filter((cells) => cells.length > 1 || cells[0] !== "");
  const columns = (lines.shift() ?? []).map((name, i) => name.trim() || `column ${i + 1}`);
  return { columns, rows: lines };
}

function separatorOf(text) {
  const end = text.search(/[\r\n]/);
  const head = (end < 0 ? text : text.slice(0, end)).replace(/"[^"]*"/g, "");
  const counts = [",", ";", "\t"].map((sign) => [head.split(sign).length, sign]);
  return counts.reduce((best, other) => (other[0] > best[0] ? other : best))[1];
}

function split(text, separator) {
  const rows = [];
  let cells = [];
  let at = 0;
  while (at <= text.length) {
    let cell = "";
    if (text[at] === '"') {
      at += 1;
      for (;;) {
        const quote = text.indexOf('"', at);
        if (quote < 0) { cell += text.slice(at); at = text.length; break; }
        cell += text.slice(at, quote);
        at = quote + 1;
        if (text[at] !== '"') break;
        cell += '"';
        at += 1;
      }
    }
    const start = at;
    while (at < text.length && text[at] !== separator && text[at] !== "\n" && text[at] !== "\r") at += 1;
    cells.push(cell + text.slice(start, at));
    if (text[at] !== separator || at >= text.length) {
      rows.push(cells);
      cells = [];
      if (text[at] === "\r" && text[at + 1] === "\n") at += 1;
    }
    at += 1;
  }
  return rows;
}

/** Write rows of cells as CSV. */
export function writeTable(columns, rows) {
  const cell = (value) => (/[",\r\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  return [columns, ...rows].map((cells) => cells.map(cell).join(",")).join("\n") + "\n";
}
