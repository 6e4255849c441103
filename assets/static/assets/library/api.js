// Requests to this site, with the form token; every failure is an Error whose message may be shown.

export const token = () => document.querySelector("[name=csrfmiddlewaretoken]").value;

export async function ask(method, url, body = undefined, signal = undefined) {
  const headers = method === "GET" ? {} : { "X-CSRFToken": token() };
  if (body !== undefined && !(body instanceof FormData)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body);
  }
  const answer = await fetch(url, { method, headers, body, signal, credentials: "same-origin" });
  if (!answer.ok) throw new Error(await reason(answer));
  return answer.json();
}

export function makeFolder(name, parent) {
  const form = new FormData();
  form.append("json", JSON.stringify({ name, content_type: "folder", ...(parent && { parent_id: parent }) }));
  return ask("POST", "/api/assets", form);
}

// Run `work` on each item, four at a time; gives what failed as [item, error].
export async function each(items, work) {
  const waiting = [...items];
  const failed = [];
  const line = async () => {
    while (waiting.length) {
      const item = waiting.shift();
      try { await work(item); } catch (error) { failed.push([item, error]); }
    }
  };
  await Promise.all([line(), line(), line(), line()]);
  return failed;
}

// What an answer of XMLHttpRequest says went wrong.
export function refusal(request) {
  try { return JSON.parse(request.responseText).detail; } catch { return `The service answered ${request.status}.`; }
}

async function reason(answer) {
  try { return (await answer.json()).detail; } catch { return `The service answered ${answer.status}.`; }
}
