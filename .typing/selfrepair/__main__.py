"""`python -m selfrepair`: the command line."""

from selfrepair.app.cli.main import main

if __name__ == "__main__":
    main(prog_name="python -m selfrepair")
