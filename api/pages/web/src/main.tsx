import { render } from "preact";
import { App } from "./parts/App";
import "./page.css";
import { begin } from "./state";

render(<App />, document.getElementById("app")!);
void begin();
