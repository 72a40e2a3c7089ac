"""The other side of the contract, small and real: hears the devices' topics, acknowledges, and answers pictures."""
