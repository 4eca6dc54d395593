import { trial } from './stack.js';
trial(JSON.parse(process.argv[2])).then((said) => {
  console.log(JSON.stringify(said));
  process.exit(0);
});
