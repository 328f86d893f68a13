// Tells the sandbox what the person does.
import { toast } from "./dialogs.js";

let me = "";
let appName = "The app";

export function actAs(user, app) {
  me = user;
  appName = app;
}

const TROUBLE = {
  operation_timeout: () => `${appName} did not answer in time.`,
  dispatch_failed: () => `${appName} cannot be reached.`,
  http_service_error: () => `${appName} answered with an error.`,
};

export async function act(what, details) {
  try {
    const reply = await fetch("/sandbox/act", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ do: what, user: me, ...details }),
    });
    const answer = await reply.json();
    if (!answer.ok) toast(answer.error);
    else if (answer.trouble && what !== "type" && what !== "submit") toast((TROUBLE[answer.trouble] ?? (() => answer.trouble))());
    return answer;
  } catch {
    toast("The workspace cannot be reached.");
    return { ok: false };
  }
}
