from gnnpatient.cli.main import main

main()
