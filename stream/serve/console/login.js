// Ask for the token once; the server then keeps a cookie that scripts cannot read.
import { html, useState } from "./ui.js";
import { api } from "./api.js";
import { Problem } from "./parts.js";

export function Login({ done }) {
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const send = (event) => {
    event.preventDefault();
    setBusy(true);
    api.login(new FormData(event.target).get("token").trim()).then(done, setProblem).finally(() => setBusy(false));
  };
  return html`<main class="login card"><h1>Abhinaya</h1>
    <p class="quiet">Enter the token of this server. <code>abhinaya serve</code> prints where it lies.</p>
    <form onSubmit=${send}><label class="field" for="token">Token</label>
      <input id="token" name="token" type="password" autocomplete="current-password" required autofocus />
      <button class="primary" disabled=${busy}>Open the console</button></form>
    <${Problem} error=${problem} /></main>`;
}
