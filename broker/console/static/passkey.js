// A form with data-passkey="get" or "create" asks the browser for a passkey with the options in data-options,
// puts the answer into its field "answer", and is then sent like any other form.
const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

function options(form) {
  const found = JSON.parse(form.dataset.options);
  found.challenge = bytes(found.challenge);
  if (found.user) found.user.id = bytes(found.user.id);
  for (const list of [found.allowCredentials, found.excludeCredentials])
    for (const key of list ?? []) key.id = bytes(key.id);
  return found;
}

function answer(made) {
  const { response } = made;
  const out = { clientDataJSON: text(response.clientDataJSON) };
  for (const name of ["attestationObject", "authenticatorData", "signature", "userHandle"])
    if (response[name]) out[name] = text(response[name]);
  if (response.getTransports) out.transports = response.getTransports();
  return JSON.stringify({ id: made.id, rawId: text(made.rawId), type: made.type, response: out });
}

const PLAIN = {
  NotAllowedError: "Nothing was confirmed: it was cancelled, took too long, or no passkey of yours is on this device.",
  InvalidStateError: "That passkey is registered already.",
  SecurityError: "This address cannot use passkeys. Open the page by the name that it was made for.",
};

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.passkey || form.elements.answer.value) return;
  event.preventDefault();
  const said = form.querySelector("[role=alert]");
  said.textContent = "";
  try {
    if (!window.PublicKeyCredential) throw new Error("This browser knows no passkeys. Use a newer one.");
    const made = await navigator.credentials[form.dataset.passkey]({ publicKey: options(form) });
    form.elements.answer.value = answer(made);
    form.requestSubmit();
  } catch (trouble) {
    said.textContent = PLAIN[trouble.name] ?? trouble.message;
  }
});
