// The key that the gateway may ask for.

import { byId, showText } from "./dom.js";

const KEPT_AS = "tallyho-key";

/** The key of this tab, if one was given. */
export const storedKey = () => sessionStorage.getItem(KEPT_AS);

/** Asks for a key when told to; `onKey(key)` gets what was entered, or null when the user signed out. */
export class SignIn {
  constructor({ onKey }) {
    this.dialog = byId("sign-in");
    this.dialog.addEventListener("cancel", (event) => event.preventDefault());
    byId("sign-out").hidden = !storedKey();
    byId("sign-in-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#keep(byId("key").value.trim());
      byId("key").value = "";
      this.dialog.close();
      this.ask = () => {}; // the page is loaded anew; what is refused until then was asked with the key before
      onKey(storedKey());
    });
    byId("sign-out").addEventListener("click", () => {
      this.#keep(null);
      onKey(null);
    });
  }

  /** Ask, unless it is asking already. */
  ask() {
    if (this.dialog.open) return;
    showText(byId("sign-in-problem"), storedKey() ? "This key is not valid here. Enter another one." : null);
    this.#keep(null);
    this.dialog.showModal();
  }

  #keep(key) {
    if (key) sessionStorage.setItem(KEPT_AS, key);
    else sessionStorage.removeItem(KEPT_AS);
    byId("sign-out").hidden = !key;
  }
}
